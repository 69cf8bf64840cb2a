"""Everything that speaks DICOM; knows nothing of SQL, Celery or TensorFlow."""
