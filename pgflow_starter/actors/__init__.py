"""The pykka actors, their supervisor and the one timer thread; they carry out what `core` decided.

They know neither psycopg nor OpenTelemetry: both are behind `ports`.
"""
