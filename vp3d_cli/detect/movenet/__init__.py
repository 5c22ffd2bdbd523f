"""The embedded detector: MoveNet MultiPose finds people, a single-person MoveNet refines each one."""
