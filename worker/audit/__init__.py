"""The audit trail: who saw and did what, to a file and to a syslog receiver over TLS.

References
----------
DICOM PS3.15 A.5 (Audit Trail Message Format) and A.6 (SYSLOG-TLS); IHE ITI TF-2 3.20
"""
