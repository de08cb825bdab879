"""The pages of docs/, and that what they say is so."""
