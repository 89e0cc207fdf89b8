"""Pictures of spectra: what is drawn, the files, and what is left alone."""

import sys
import xml.etree.ElementTree

import numpy as np
import pytest
from matplotlib import pyplot

from tf1xent.curvature.estimates.eigenvalues import top_eigenvalues
from tf1xent.curvature.estimates.spectral_density import spectral_density
from tf1xent.curvature.reports.plotting import plot_spectrum

MATRIX = np.diag(np.concatenate([np.linspace(-1, 1, 50), [8.0, 5.0]]))


@pytest.fixture(scope="module")
def density():
    return spectral_density(MATRIX, num_steps=30)


def test_a_density_has_a_logarithmic_axis_and_marks(density):
    eigenvalues = top_eigenvalues(MATRIX, 2)
    figure = plot_spectrum(density, eigenvalues=eigenvalues, title="of a matrix")
    (axes,) = figure.axes
    curve, marks = axes.lines
    assert axes.get_yscale() == "log"
    np.testing.assert_array_equal(curve.get_xdata(), density.grid)
    np.testing.assert_array_equal(curve.get_ydata(), density.density)
    np.testing.assert_allclose(marks.get_xdata(), [8, 5])
    low, high = axes.get_ylim()
    assert low < marks.get_ydata()[0] < density.density.max() < high
    assert axes.get_title() == "of a matrix"
    assert len(plot_spectrum(density).axes[0].lines) == 1


def test_eigenvalues_are_drawn_by_rank_with_their_signs():
    (axes,) = plot_spectrum([0.5, -3.0, 0.0, 2.0]).axes
    positive, negative = axes.lines
    np.testing.assert_array_equal(positive.get_xdata(), [2, 3])
    np.testing.assert_array_equal(positive.get_ydata(), [2, 0.5])
    np.testing.assert_array_equal(negative.get_xdata(), [1])
    np.testing.assert_array_equal(negative.get_ydata(), [3])
    assert axes.get_yscale() == "log"
    (axes,) = plot_spectrum(top_eigenvalues(MATRIX, 2)).axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [8, 5])
    assert plot_spectrum([0.0]).axes[0].lines[:] == []


def test_files_are_what_their_names_say(density, tmp_path):
    small = {"size": (3, 2), "dpi": 40}
    for name, begin in (("a.png", b"\x89PNG\r\n\x1a\n"), ("a.svg", b"<?xml"), ("a.PDF", b"%PDF")):
        plot_spectrum(density, tmp_path / name, **small)
        assert (tmp_path / name).read_bytes().startswith(begin)
    drawing = xml.etree.ElementTree.parse(str(tmp_path / "a.svg")).getroot()
    assert drawing.tag.endswith("svg")
    plot_spectrum(density, str(tmp_path / "b.png"), **small)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_nothing_is_left_in_pyplot(density, tmp_path):
    before = pyplot.get_fignums()
    plot_spectrum(density, str(tmp_path / "spectrum.png"))
    assert pyplot.get_fignums() == before


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`path` must end in .png, .svg or .pdf, got .*gif"):
        plot_spectrum([1.0], tmp_path / "spectrum.gif")
    with pytest.raises(ValueError, match="got 2 of which 1 are finite"):
        plot_spectrum([1.0, np.nan])
    with pytest.raises(ValueError, match="got 0 of which 0 are finite"):
        plot_spectrum([])


def test_matplotlib_is_needed_when_something_is_drawn_only(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # an import of it fails
    message = r"plot_spectrum: needs matplotlib. Run: pip install tf1xent\[curvature\]"
    with pytest.raises(ImportError, match=message):
        plot_spectrum([1.0])
