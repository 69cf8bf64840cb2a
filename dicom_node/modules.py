"""The Patient and Study modules that a report takes over, as data.

References
----------
DICOM PS3.3 C.7.1.1, C.7.1.3, C.7.2.1, C.7.2.2, C.7.2.3
"""

from __future__ import annotations

from typing import Final

# Type 2: present in every report, empty when the evidence has nothing (PS3.3 C.7.1.1, C.7.2.1).
TYPE_2: Final = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
)

# Optional or conditional, of the Patient (C.7.1.1), Clinical Trial Subject (C.7.1.3), General
# Study (C.7.2.1), Patient Study (C.7.2.2) and Clinical Trial Study (C.7.2.3) modules.
TYPE_3: Final = (
    "ReferencedPatientSequence",
    "IssuerOfPatientID",
    "TypeOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "SourcePatientGroupIdentificationSequence",
    "GroupOfPatientsIdentificationSequence",
    "PatientBirthTime",
    "PatientBirthDateInAlternativeCalendar",
    "PatientDeathDateInAlternativeCalendar",
    "PatientAlternativeCalendar",
    "QualityControlSubject",
    "OtherPatientNames",
    "OtherPatientIDs",
    "OtherPatientIDsSequence",
    "EthnicGroup",
    "EthnicGroupCodeSequence",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    "PatientComments",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialProtocolEthicsCommitteeName",
    "ClinicalTrialProtocolEthicsCommitteeApprovalNumber",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianIdentificationSequence",
    "ConsultingPhysicianName",
    "ConsultingPhysicianIdentificationSequence",
    "StudyDescription",
    "ProcedureCodeSequence",
    "PhysiciansOfRecord",
    "PhysiciansOfRecordIdentificationSequence",
    "NameOfPhysiciansReadingStudy",
    "PhysiciansReadingStudyIdentificationSequence",
    "ReferencedStudySequence",
    "RequestingService",
    "RequestingServiceCodeSequence",
    "ReasonForPerformedProcedureCodeSequence",
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
    "PatientAge",
    "PatientSize",
    "PatientSizeCodeSequence",
    "PatientBodyMassIndex",
    "PatientWeight",
    "MedicalAlerts",
    "Allergies",
    "Occupation",
    "SmokingStatus",
    "AdditionalPatientHistory",
    "PregnancyStatus",
    "LastMenstrualDate",
    "PatientSexNeutered",
    "ReasonForVisit",
    "ReasonForVisitCodeSequence",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "ServiceEpisodeID",
    "ServiceEpisodeDescription",
    "IssuerOfServiceEpisodeIDSequence",
    "PatientState",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    "TimezoneOffsetFromUTC",
)

# Enumerated values: anything else would make the report invalid and says nothing.
ENUMERATED: Final[dict[str, frozenset[str]]] = {
    "PatientSex": frozenset("MFO"),
    "PatientIdentityRemoved": frozenset({"YES", "NO"}),
    "QualityControlSubject": frozenset({"YES", "NO"}),
    "SmokingStatus": frozenset({"YES", "NO", "UNKNOWN"}),
    "PatientSexNeutered": frozenset({"ALTERED", "UNALTERED"}),
}

# The same of binary numbers (VR US).
ENUMERATED_NUMBERS: Final[dict[str, frozenset[int]]] = {
    "PregnancyStatus": frozenset({1, 2, 3, 4}),
}

SPECIES: Final = ("PatientSpeciesDescription", "PatientSpeciesCodeSequence")

# An attribute that is invalid without (one of) its companions.
COMPANIONS: Final[dict[str, tuple[str, ...]]] = {
    "PatientIdentityRemoved": ("DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    "ResponsiblePerson": ("ResponsiblePersonRole",),
    "ResponsiblePersonRole": ("ResponsiblePerson",),
    "UniversalEntityID": ("UniversalEntityIDType",),
    "PatientBirthDateInAlternativeCalendar": ("PatientAlternativeCalendar",),
    "PatientDeathDateInAlternativeCalendar": ("PatientAlternativeCalendar",),
    "PatientAlternativeCalendar": (
        "PatientBirthDateInAlternativeCalendar",
        "PatientDeathDateInAlternativeCalendar",
    ),
    # Type 1C: never empty
    "DeidentificationMethod": ("DeidentificationMethod",),
    "PatientSpeciesDescription": ("PatientSpeciesDescription",),
    **dict.fromkeys(
        ("PatientBreedDescription", "PatientBreedCodeSequence", "BreedRegistrationSequence"),
        SPECIES,
    ),
}

# Type 2C of a patient that is no human: present, if empty, once the species is told (C.7.1.1).
OF_ANIMALS: Final = (
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "ResponsiblePerson",
    "ResponsibleOrganization",
    "PatientSexNeutered",
)

# What an item must have: of each group, one at least.
_REFERENCE: Final = (("ReferencedSOPClassUID",), ("ReferencedSOPInstanceUID",))  # Table 10-11
_PERSON: Final = (  # Table 10-1
    ("PersonIdentificationCodeSequence",),
    ("InstitutionName", "InstitutionCodeSequence"),
)
_ISSUER: Final = (("LocalNamespaceEntityID", "UniversalEntityID"),)  # Table 10-17
CODE: Final = (  # Table 8.8-1
    ("CodeValue", "LongCodeValue", "URNCodeValue"),
    ("CodeMeaning",),
    ("CodingSchemeDesignator", "URNCodeValue"),
)
ITEMS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "ReferencedPatientSequence": _REFERENCE,
    "ReferencedStudySequence": _REFERENCE,
    "OtherPatientIDsSequence": (("PatientID",), ("TypeOfPatientID",)),
    "SourcePatientGroupIdentificationSequence": (("PatientID",),),
    "GroupOfPatientsIdentificationSequence": (("PatientID",),),
    "BreedRegistrationSequence": (("BreedRegistrationNumber",), ("BreedRegistryCodeSequence",)),
    "ReferringPhysicianIdentificationSequence": _PERSON,
    "ConsultingPhysicianIdentificationSequence": _PERSON,
    "PhysiciansOfRecordIdentificationSequence": _PERSON,
    "PhysiciansReadingStudyIdentificationSequence": _PERSON,
    "IssuerOfAccessionNumberSequence": _ISSUER,
    "IssuerOfAdmissionIDSequence": _ISSUER,
    "IssuerOfServiceEpisodeIDSequence": _ISSUER,
}

TRIAL: Final = "ClinicalTrial"
TRIAL_TYPE_1: Final = ("ClinicalTrialSponsorName", "ClinicalTrialProtocolID")

# What identifies is kept even where it breaks its VR: a report under a mended id is lost.
IDENTIFYING: Final = frozenset({"PatientName", "PatientID", "IssuerOfPatientID", "AccessionNumber"})
