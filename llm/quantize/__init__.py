"""From a model file to one with smaller weights: which tensor gets which type, and the file."""
