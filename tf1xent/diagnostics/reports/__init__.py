"""What is told of a diagnosis: text, an event file for TensorBoard, and a folder to run it again."""
