"""Source in, source and findings out."""

from tf1xent.migrate.finding import Options, Result


def migrate_source(text: str, options: Options = Options()) -> Result:
    """Asks the rules about a module, and rewrites what they may rewrite.

    Raises:
      libcst.ParserSyntaxError: the text is no Python 3.
    """
    return Result(text, ())
