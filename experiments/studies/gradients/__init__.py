"""Gradients of estimators: the run, the measurement, and the rows of its table."""
