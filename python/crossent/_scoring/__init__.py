"""Scores of rows, of any number of batches, of two models and of classifiers."""
