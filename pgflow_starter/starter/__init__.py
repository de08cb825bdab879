"""The composition root: `start`, the `Starter` handle, its `parts`, and the supervision `tree` written out.

It knows every room and decides nothing: no SQL, no policy.
"""
