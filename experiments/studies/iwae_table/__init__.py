"""Table 1 of Burda et al.: the run of each row, and how the runs are judged."""
