"""Experiments: one main for each figure or question, with absl flags."""
