"""The supervisor, held to the rules of OTP's: what its documentation promises and what its own suite looks at."""
