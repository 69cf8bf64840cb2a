"""DICOMweb: what viewers such as OHIF ask for, with a token or in a session of the pages."""
