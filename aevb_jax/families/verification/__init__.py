"""The check of a family of one's own: `check` compares the functions of a family with each other.

`members` makes the members and checks shapes and types, `comparisons` has the statistics, `slopes`
the derivatives, and `coordinates` the coordinates in which densities are compared.
"""

from aevb_jax.families.verification.checking import check
