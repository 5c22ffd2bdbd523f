"""MoveNet detector: MultiPose finds people, a single-person network tracks each one."""
