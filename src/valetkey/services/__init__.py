"""APIs that keys open: where they are, how a key is put in, what their makers say about them.

`placement` says how a key is put in, `origin` and `dialling` where a call may go, `service` what it is,
`catalogue` what is known of well-known ones beforehand (data files in `catalogue/`).
"""
