"""The processes: a supervisor, one control process (sole writer of the database), N gateway workers."""
