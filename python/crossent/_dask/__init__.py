"""Dask graphs that score blocks of rows; `crossent.dask` is what users see of it."""
