"""What is installed in a database, what is missing, and laying it down."""
