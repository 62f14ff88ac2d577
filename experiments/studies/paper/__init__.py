"""The paper's figures 2 to 5: the runs that they share, and what is read from them."""
