"""Connections: made, kept, probed, limited, given up."""
