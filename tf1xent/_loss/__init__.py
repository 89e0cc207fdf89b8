"""One loss with its options, from the arguments of a public function to the losses by row."""
