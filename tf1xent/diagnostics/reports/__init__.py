"""What is told of a diagnosis: text, an event file for TensorBoard, a folder with the step."""
