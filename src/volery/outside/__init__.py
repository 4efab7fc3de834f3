"""What is asked outside during a rollout: gates, custom metrics, synthetic requests.

`OutsideWorld` is the real adapter of the `Outside` port. Whoever is asked may hang, lie, flood or
be away: every question has a time limit, every answer a bound, and what is no usable answer is
*broken*, never a yes and never a no. It decides nothing about a rollout.
"""

from volery.outside.world import OutsideWorld

__all__ = ["OutsideWorld"]
