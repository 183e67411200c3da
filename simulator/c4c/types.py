"""The entity types of the simulated C4C tenant, one block per type, in a notation of our own; `simulator.c4c.schema` reads it.

Names, types, lengths and flags are those of a real tenant's $metadata (c4c-odata.md, source S2, 2021); a test compares every
one of them. Left out are a tenant's own fields (`*_KUT`), the types that the product never touches, and the navigations to
them. Nothing here decides anything.

A block starts with

    # Type flags [set=EntitySet] [parent=Type [as=Navigation]] [back=Navigation]

(continued on lines that begin with #), where the flags say what the entity set allows (c create, u update, d delete,
- nothing), `set` is given when it is not the type's name plus "Collection", `parent` makes it a child list of that
type (the navigation is called as the child unless `as`
says otherwise) and `back` names the child's navigation to its parent. Then properties follow as

    Name:kind:flags

    kind    S<n> fixed-length string, s<n> variable string (no number: no limit), D DateTimeOffset, T DateTime,
            d DateTime that is only a date, G Guid, B Boolean, N<precision>.<scale> Decimal, I Int32, H Int16, M Time, X Binary
    flags   c creatable, u updatable, f filterable, ! not nullable, ^ the parent's human ID,
            + a code whose description is in the filterable property Name+"Text", ~ the same but not filterable,
            = a code without a description; its code list is the set Type+Name+"Collection" unless @Set says otherwise,
            %Name the list depends on that property's value (% alone: on something the metadata does not name)

and a line `-> Navigation Type Own = Theirs` is a navigation to the one record of that type with an equal value.
"""

from __future__ import annotations

ENTITY_TYPES = """
# Contact cu
ObjectID:S70:f! ContactID:S10:cf ContactUUID:G:f ExternalID:S100:f ExternalSystem:S32:f StatusCode:S2:cuf+
TitleCode:S4:cuf+ AcademicTitleCode:S4:cuf+ AdditionalAcademicTitleCode:S4:cuf+ NamePrefixCode:S4:cuf+
FirstName:S40:cuf LastName:S40:cuf! AdditionalFamilyName:S40:cuf Initials:S10:cuf MiddleName:S40:cuf Name:S480:f
GenderCode:S1:cuf+ MaritalStatusCode:S1:cuf+ LanguageCode:S2:cuf+ NickName:S40:cuf BirthDate:d:cuf BirthName:S40:cuf
ContactPermissionCode:S1:cuf+ ProfessionCode:S4:cuf+ PerceptionOfCompanyCode:S2:cuf+ AccountID:S10:cuf
AccountUUID:G:cuf AccountFormattedName:S480:f Building:S10:cuf Floor:S10:cuf Room:S10:cuf JobTitle:S40:cuf
FunctionCode:S4:cuf+ DepartmentCode:S4:cuf+ Department:S40:cuf VIPContactCode:S1:cuf+ Phone:S40:cuf Mobile:S40:cuf
Fax:S40:cuf Email:S255:cuf EmailInvalidIndicator:B:cuf BestReachedByCode:S3:cuf+
FormattedPostalAddressDescription:S480:f BusinessAddressCountryCode:S3:cuf+ BusinessAddressStateCodeTextUpdatable:s:cu
BusinessAddressHouseNumber:S10:cuf BusinessAddressStreet:S60:cuf BusinessAddressCity:S40:cuf
BusinessAddressStreetPostalCode:S10:cuf BusinessAddressStateCode:S6:cuf+%BusinessAddressCountryCode CreationOn:D:f
CreatedBy:S480:f ChangedOn:D:f ChangedBy:S480:f ContactOwnerID:S20:cuf ContactOwnerUUID:G:cuf NormalisedPhone:S40:f
NormalisedMobile:S40:f EntityLastChangedOn:D:f ETag:D
-> ContactOwnerEmployeeBasicData EmployeeBasicData ContactOwnerID = EmployeeID
-> CorporateAccount CorporateAccount AccountID = AccountID

# ContactIsContactPersonFor cud parent=Contact
ObjectID:S70:f! ParentObjectID:S70:cf ETag:D ContactID:S10:cf AccountID:S10:cf AccountFormattedName:S480:f
ReverseMainIndicator:B:cuf DepartmentCode:S4:cuf+ FunctionCode:S4:cuf+ VIPReasonCode:S1:cuf+ JobTitle:S40:cuf
Department:S40:cuf Building:S10:cuf Floor:S10:cuf Room:S10:cuf Email:S255:cuf EmailInvalidIndicator:B:cuf Fax:S40:cuf
Mobile:S40:cuf Phone:S40:cuf BestReachedByCode:S3:cuf+ OrganisationAddressUUID:G:cuf EntityLastChangedOn:D:f
-> CorporateAccount CorporateAccount AccountID = AccountID

# ContactAttachmentFolder cud parent=Contact
ETag:D Binary:X:c CategoryCode:S1:cf!+ ContactInternalID:s10:cf^ CreatedBy:S80:f CreatedOn:T:f DocumentLink:s:cf
LastUpdatedBy:S80:f LastUpdatedOn:T:f LinkWebURI:s:cf MimeType:s:cf Name:s:cf ObjectID:S70:f! ParentObjectID:S70:cf
SizeInkB:N31.14:f TypeCode:S5:cf+ UUID:G:f!

# ContactPersonalAddress cud parent=Contact back=Contact
ObjectID:S70:f! ParentObjectID:S70:cf ContactID:S10:cf^ MainPersonalAddress:B:cuf
FormattedPostalAddressDescription:S480:f CountryCode:S3:cuf+ StateCode:S6:cuf+%CountryCode CareOfName:S40:cuf
AddressLine1:S40:cuf AddressLine2:S40:cuf HouseNumber:S10:cuf Street:S60:cuf AddressLine4:S40:cuf AddressLine5:S40:cuf
City:S40:cuf StreetPostalCode:S10:cuf POBox:S10:cuf POBoxPostalCode:S10:cuf TimeZoneCode:S10:cuf+ Phone:S40:cuf
Mobile:S40:cuf Fax:S40:cuf EMail:S255:cuf WebSite:S1280:cuf NormalisedPhone:S40:f NormalisedMobile:S40:f ETag:D

# ContactTextCollection cud parent=Contact back=Contact
ObjectID:S70:f! ParentObjectID:S70:cf ContactID:S10:cf^ Text:s:cuf LanguageCode:S2:f+ AuthorName:S40:cuf CreatedOn:D:f
CreatedBy:S480:f CreatedByIdentityID:S40:f CreatedByTechnicalUserIndicator:B:f UpdatedOn:D:f LastUpdatedBy:S480:f
LastUpdatedByIdentityID:S40:f LastUpdatedByTechnicalUserIndicator:B:f EntityLastChangedOn:D:f ETag:D

# CorporateAccount cu
ObjectID:S70:f! AccountID:S10:cf UUID:G:cf ExternalID:S100:f ExternalSystem:S32:f RoleCode:S6:cuf!+
LifeCycleStatusCode:S2:cuf+ DUNSID:S60:cuf LegalFormCode:S2:cuf+ CustomerABCClassificationCode:S1:cuf+
NielsenRegionCode:S2:cuf+ IndustrialSectorCode:S10:cuf+% ContactPermissionCode:S1:cuf+
BusinessPartnerFormattedName:S480:f Name:S40:cuf! AdditionalName:S40:cuf AdditionalName2:S40:cuf
AdditionalName3:S40:cuf CurrentDefaultAddressUUID:G:cuf FormattedPostalAddressDescription:S480:f CountryCode:S3:cuf+
StateCode:S6:cuf+%CountryCode CareOfName:S40:cuf AddressLine1:S40:cuf AddressLine2:S40:cuf HouseNumber:S10:cuf
AdditionalHouseNumber:S10:cuf Street:S60:cuf AddressLine4:S40:cuf AddressLine5:S40:cuf District:S40:cuf City:S40:cuf
DifferentCity:S40:cuf StreetPostalCode:S10:cuf County:S40:cuf CompanyPostalCode:S10:cuf POBoxIndicator:B:cuf
POBox:S10:cuf POBoxPostalCode:S10:cuf POBoxDeviatingCountryCode:S3:cuf+
POBoxDeviatingRegionCode:S6:cuf+%POBoxDeviatingCountryCode POBoxDeviatingCity:S40:cuf TimeZoneCode:S10:cuf+
Building:S10:cuf Floor:S10:cuf Room:S10:cuf Phone:S40:cuf NormalisedPhone:S40:f Mobile:S40:cuf NormalisedMobile:S40:f
Fax:S40:cuf Email:S255:cuf WebSite:S1280:cuf LanguageCode:S2:cuf+ BestReachedByCode:S3:cuf+
OrderBlockingReasonCode:S2:cuf+ DeliveryBlockingReasonCode:S2:cuf+ BillingBlockingReasonCode:S2:cuf+
SalesSupportBlockingIndicator:B:cuf LegalCompetenceIndicator:B:cuf RecommendedVisitingFrequency:S20:cuf
VisitDuration:S20:cuf LastVisitingDate:d:f NextVisitingDate:d:f LatestRecommendedVisitingDate:d:f OwnerID:S20:cuf
OwnerUUID:G:cuf CreationOn:D:f CreatedBy:S480:f ChangedOn:D:f ChangedBy:S480:f EntityLastChangedOn:D:f ETag:D
-> OwnerEmployeeBasicData EmployeeBasicData OwnerID = EmployeeID

# CorporateAccountHasContactPerson cud parent=CorporateAccount
ObjectID:S70:f! ParentObjectID:S70:cf AccountID:S10:cuf ContactID:S10:cuf! ContactFormattedName:S480:f
MainIndicator:B:cuf DepartmentCode:S4:cuf+ FunctionCode:S4:cuf+ VIPReasonCode:S1:cuf+ JobTitle:S40:cuf
Department:S40:cuf Building:S10:cuf Floor:S10:cuf Room:S10:cuf Email:S255:cuf Fax:S40:cuf Mobile:S40:cuf Phone:S40:cuf
EmailInvalidIndicator:B:cuf BestReachedByCode:S3:cuf+ OrganisationAddressUUID:G:cuf EntityLastChangedOn:D:f ETag:D
-> Contact Contact ContactID = ContactID

# CorporateAccountAddress cud parent=CorporateAccount back=CorporateAccount
ObjectID:S70:f! ParentObjectID:S70:cf AccountID:S10:cf^ UUID:G:cuf MainIndicator:B:cuf ShipTo:B:cu DefaultShipTo:B:cu
BillTo:B:cu DefaultBillTo:B:cu FormattedPostalAddressDescription:S480:f CountryCode:S3:cuf+
StateCode:S6:cuf+%CountryCode CareOfName:S40:cuf AddressLine1:S40:cuf AddressLine2:S40:cuf HouseNumber:S10:cuf
AdditionalHouseNumber:S10:cuf Street:S60:cuf AddressLine4:S40:cuf AddressLine5:S40:cuf District:S40:cuf City:S40:cuf
DifferentCity:S40:cuf StreetPostalCode:S10:cuf County:S40:cuf CompanyPostalCode:S10:cuf POBoxIndicator:B:cuf
POBox:S10:cuf POBoxPostalCode:S10:cuf POBoxDeviatingCountryCode:S3:cuf+
POBoxDeviatingStateCode:S6:cuf+%POBoxDeviatingCountryCode POBoxDeviatingCity:S40:cuf TimeZoneCode:S10:cuf+
Latitude:N31.14:cuf Longitude:N31.14:cuf Building:S10:cuf Floor:S10:cuf Room:S10:cuf Phone:S40:cuf
NormalisedPhone:S40:f Mobile:S40:cuf NormalisedMobile:S40:f Fax:S40:cuf Email:S255:cuf WebSite:S1280:cuf
LanguageCode:S2:cuf+ BestReachedByCode:S3:cuf+ ETag:D

# CorporateAccountAttachmentFolder cud parent=CorporateAccount
ObjectID:S70:f! ParentObjectID:S70:cf AccountID:s10:cf^ Name:s:cf TypeCode:S5:cf+ LinkWebURI:s:cf MimeType:s:cf
DocumentLink:s:cf Binary:X:c CreatedBy:S80:f CreatedOn:T:f LastUpdatedBy:S80:f LastUpdatedOn:T:f ETag:D
CategoryCode:S1:cf!+ UUID:G:f!

# CorporateAccountTextCollection cud parent=CorporateAccount back=CorporateAccount
ObjectID:S70:f! ParentObjectID:S70:cf AccountID:S10:cf^ Text:s:cuf LanguageCode:S2:f+ AuthorName:S40:cuf CreatedOn:D:f
CreatedBy:S480:f CreatedByIdentityID:S40:f CreatedByTechnicalUserIndicator:B:f UpdatedOn:D:f LastUpdatedBy:S480:f
LastUpdatedByIdentityID:S40:f LastUpdatedByTechnicalUserIndicator:B:f EntityLastChangedOn:D:f ETag:D

# CorporateAccountTeam cud parent=CorporateAccount back=CorporateAccount
ObjectID:S70:f! ParentObjectID:S70:cf AccountID:S10:cf^ EmployeeUUID:G:cuf EmployeeID:S20:cuf PartyRoleCode:S10:cuf!+
StartDate:d:cuf EndDate:d:cuf MainIndicator:B:cuf SalesOrganisationID:S20:cuf DistributionChannelCode:S2:cuf+
DivisionCode:S2:cuf+ ETag:D
-> EmployeeBasicData EmployeeBasicData EmployeeID = EmployeeID

# IndividualCustomer cu
ObjectID:S70:f! CustomerID:S10:cf UUID:G:cf ExternalID:S100:f ExternalSystem:S32:f RoleCode:S6:cuf!+
LifeCycleStatusCode:S2:cuf+ CustomerABCClassificationCode:S1:cuf+ ContactPermissionCode:S1:cuf+ TitleCode:S4:cuf+
AcademicTitleCode:S4:cuf+ FirstName:S40:cuf MiddleName:S40:cuf LastName:S40:cuf! AdditionalLastName:S40:cuf
Initials:S10:cuf NickName:S40:cuf GenderCode:S1:cuf+ NamePrefixCode:S4:cuf+ MaritalStatusCode:S1:cuf+
LanguageCode:S2:cuf+ BirthName:S40:cuf BirthDate:d:cuf NationalityCountryCode:S3:cuf+ ProfessionCode:S4:cuf+
FormattedName:S480:f FormattedPostalAddressDescription:S480:f CountryCode:S3:cuf+ StateCode:S6:cuf+%CountryCode
CareOfName:S40:cuf AddressLine1:S40:cuf AddressLine2:S40:cuf HouseNumber:S10:cuf AdditionalHouseNumber:S10:cuf
Street:S60:cuf AddressLine4:S40:cuf AddressLine5:S40:cuf District:S40:cuf City:S40:cuf DifferentCity:S40:cuf
StreetPostalCode:S10:cuf County:S40:cuf POBoxIndicator:B:cuf POBox:S10:cuf POBoxPostalCode:S10:cuf
POBoxDeviatingCountryCode:S3:cuf+ POBoxDeviatingStateCode:S6:cuf+%POBoxDeviatingCountryCode POBoxDeviatingCity:S40:cuf
TimeZoneCode:S10:cuf+ TaxJurisdictionCode:S25:cuf+ Building:S10:cuf Floor:S10:cuf Room:S10:cuf Phone:S40:cuf
NormalisedPhone:S40:f Mobile:S40:cuf NormalisedMobile:S40:f Fax:S40:cuf Email:S255:cuf EmailInvalidIndicator:B:cuf
WebSite:S1280:cuf BestReachedByCode:S3:cuf+ OrderBlockingReasonCode:S2:cuf+ DeliveryBlockingReasonCode:S2:cuf+
BillingBlockingReasonCode:S2:cuf+ SalesSupportBlockingIndicator:B:cuf RecommendedVisitingFrequency:S20:cuf
VisitDuration:S20:cuf LastVisitingDate:d:f NextVisitingDate:d:f LatestRecommendedVisitingDate:d:f OwnerID:S20:cuf
OwnerUUID:G:cuf CreationOn:D:f CreatedBy:S480:f ChangedOn:D:f ChangedBy:S480:f EntityLastChangedOn:D:f ETag:D
-> OwnerEmployeeBasicData EmployeeBasicData OwnerID = EmployeeID

# IndividualCustomerAddress cud parent=IndividualCustomer back=IndividualCustomer
ObjectID:S70:f! ParentObjectID:S70:cf CustomerID:S10:cf^ MainIndicator:B:cuf ShipTo:B:cu DefaultShipTo:B:cu
BillTo:B:cu DefaultBillTo:B:cu FormattedPostalAddressDescription:S480:f CountryCode:S3:cuf+
StateCode:S6:cuf+%CountryCode CareOfName:S40:cuf AddressLine1:S40:cuf AddressLine2:S40:cuf HouseNumber:S10:cuf
AdditionalHouseNumber:S10:cuf Street:S60:cuf AddressLine4:S40:cuf AddressLine5:S40:cuf District:S40:cuf City:S40:cuf
DifferentCity:S40:cuf StreetPostalCode:S10:cuf County:S40:cuf POBoxIndicator:B:cuf POBox:S10:cuf
POBoxPostalCode:S10:cuf POBoxDeviatingCountryCode:S3:cuf+ POBoxDeviatingStateCode:S6:cuf+%POBoxDeviatingCountryCode
POBoxDeviatingCity:S40:cuf TimeZoneCode:S10:cuf+ Latitude:N31.14:cuf Longitude:N31.14:cuf Building:S10:cuf
Floor:S10:cuf Room:S10:cuf Phone:S40:cuf NormalisedPhone:S40:f Mobile:S40:cuf NormalisedMobile:S40:f Fax:S40:cuf
Email:S255:cuf EmailInvalidIndicator:B:cuf WebSite:S1280:cuf BestReachedByCode:S3:cuf+ ETag:D

# IndividualCustomerAttachmentFolder cud parent=IndividualCustomer
CustomerID:s10:cf^ Name:s:cf TypeCode:S5:cf+ LinkWebURI:s:cf MimeType:s:cf DocumentLink:s:cf Binary:X:c
CreatedBy:S80:f CreatedOn:T:f LastUpdatedBy:S80:f LastUpdatedOn:T:f ETag:D CategoryCode:S1:cf!+ ObjectID:S70:f!
ParentObjectID:S70:cf UUID:G:f!

# IndividualCustomerTextCollection cud parent=IndividualCustomer back=IndividualCustomer
ObjectID:S70:f! ParentObjectID:S70:cf CustomerID:S10:cf^ Text:s:cuf LanguageCode:S2:f+ AuthorName:S40:cuf
CreatedOn:D:f CreatedBy:S480:f CreatedByIdentityID:S40:f CreatedByTechnicalUserIndicator:B:f UpdatedOn:D:f
LastUpdatedBy:S480:f LastUpdatedByIdentityID:S40:f LastUpdatedByTechnicalUserIndicator:B:f EntityLastChangedOn:D:f
ETag:D

# Lead cud
ObjectID:S70:f! ID:S35:f Name:S255:cuf! NameLanguageCode:S2:cuf+ AccountPartyID:S60:cuf AccountPartyUUID:G:cuf
AccountPartyName:S480:f ContactID:S60:cuf ContactUUID:G:cuf ContactName:S480:f Company:S40:cuf
ContactFirstName:S40:cuf ContactMiddleName:S40:cu ContactLastName:S40:cuf IndividualCustomerGivenName:S40:cuf
IndividualCustomerMiddleName:S40:cu IndividualCustomerFamilyName:S40:cuf QualificationLevelCode:S2:cuf+
UserStatusCode:S2:cuf+ ResultReasonCode:S3:cuf+ ApprovalStatusCode:S2:f+ ConsistencyStatusCode:S2:f+
OriginTypeCode:S3:cuf+ PriorityCode:S1:cuf+ StartDate:d:cuf EndDate:d:cuf CampaignID:S35:cu GroupCode:S4:cuf+
OwnerPartyID:S60:cuf OwnerPartyUUID:G:cuf EmployeeResponsibleUUID:G:cu OwnerPartyName:S480:f OwnerPartyIDSales:S60:cuf
OwnerUUIDSales:G:cuf OwnerSalesName:S480:f MarketingUnitPartyID:S60:cuf MarketingUnitPartyUUID:G:cuf
MarketingName:S480:f SalesUnitPartyID:S60:cuf SalesUnitPartyUUID:G:cuf SalesUnitName:S480:f
SalesOrganisationID:S20:cuf SalesOrganisationUUID:G:cuf DistributionChannelCode:S2:cuf+ DivisionCode:S2:cuf+
SalesOfficeID:S20:cuf SalesOfficeUUID:G:cuf SalesGroupID:S20:cuf SalesGroupUUID:G:cuf SurveyTotalScoreValue:I:f
CreationDateTime:D:f LastChangeDateTime:D:f CreationIdentityUUID:G:f LastChangeIdentityUUID:G:f Note:s:cu
SalesTerritoryID:S6:cuf SalesTerritoryUUID:G:cuf SalesTerritoryName:S40:f ExpectedRevenueAmount:N28.6:cuf
ExpectedRevenueCurrencyCode:S3:cuf+ Score:I:f CompanySecondName:S40:cu CompanyThirdName:S40:cu
CompanyFourthName:S40:cu AccountPostalAddressElementsHouseID:S10:cu AccountPostalAddressElementsStreetPrefix:S40:cu
AccountPostalAddressElementsAdditionalStreetPrefixName:S40:cu AccountPostalAddressElementsStreetName:S60:cu
AccountPostalAddressElementsStreetSufix:S40:cu AccountPostalAddressElementsAdditionalStreetSuffixName:S40:cu
AccountCity:S40:cuf AccountCountry:S3:cuf+ AccountState:S6:cuf+%AccountCountry
AccountPostalAddressElementsPOBoxID:S10:cu AccountPostalAddressElementsStreetPostalCode:S10:cu~
AccountPostalAddressElementsCountyName:S40:cu AccountPhone:S40:cu AccountFax:S40:cu AccountMobile:S40:cu
AccountEMail:S255:cu AccountWebsite:S255:cu AccountLatitudeMeasure:N31.14:cu AccountLatitudeMeasureUnitCode:S3:cu~
AccountLongitudeMeasure:N31.14:cu AccountLongitudeMeasureUnitCode:S3:cu~
AccountLegalForm:S2:cu~@LeadAccountLegalFormCodeCollection OrganisationAccountABCClassificationCode:S1:cu~
OrganisationAccountIndustrialSectorCode:S10:cu~ AccountDUNS:S60:cu OrganisationAccountContactAllowedCode:S1:cu~
AccountCorrespondenceLanguageCode:S2:cu~ AccountNote:s:cu ContactFormOfAddressCode:S4:cu~
ContactFunctionalTitleName:S40:cu ContactAcademicTitleCode:S4:cu~ ContactAdditionalAcademicTitleCode:S4:cu~
ContactNickName:S40:cu ContactCorrespondenceLanguageCode:S2:cu~ ContactGenderCode:S1:cu~
ContactMaritalStatusCode:S1:cu~ BusinessPartnerRelationshipBusinessPartnerFunctionTypeCode:S4:cu~
BusinessPartnerRelationshipBusinessPartnerFunctionalAreaCode:S4:cu~ ContactDepartmentName:S40:cu
BusinessPartnerRelationshipContactVIPReasonCode:S1:cu~ ContactAllowedCode:S1:cu~
BusinessPartnerRelationshipEngagementScoreNumberValue:S100:cu ContactBuildingID:S10:cu ContactFloorID:S10:cu
ContactRoomID:S10:cu ContactPhone:S40:cuf ContactFacsimileFormattedNumberDescription:S40:cu ContactMobile:S40:cuf
ContactEMail:S255:cuf ContactEMailUsageDeniedIndicator:S1:cu ContactNote:s:cu
IndividualCustomerABCClassificationCode:S1:cu~ IndividualCustomerGenderCode:S1:cu~
IndividualCustomerMaritalStatusCode:S1:cu~ IndividualCustomerEMail:S255:cu IndividualCustomerPhone:S40:cu
IndividualCustomerFax:S40:cu IndividualCustomerMobile:S40:cu IndividualCustomerAddressHouseID:S10:cu
IndividualCustomerAddressStreetName:S60:cu IndividualCustomerAddressCity:S40:cu
IndividualCustomerAddressCountry:S100:cu~@LeadIndividualCustomerAddressCountryCodeCollection
IndividualCustomerAddressState:S6:cu~@LeadIndividualCustomerAddressStateCodeCollection
IndividualCustomerAddressPostalCode:S10:cu~ IndividualCustomerAddressCountyName:S40:cu
IndividualCustomerNationalityCountryCode:S3:cu~ IndividualCustomerBirthDate:T:cu
IndividualCustomerFormOfAddressCode:S4:cu~ IndividualCustomerAcademicTitleCode:S4:cu~
IndividualCustomerOccupationCode:S4:cu~ IndividualCustomerContactAllowedCode:S1:cu~
IndividualCustomerNonVerbalCommunicationLanguageCode:S2:cu~ IndividualCustomerInitialsName:S100:cu
AccountPreferredCommunicationMediumTypeCode:S3:cu~ IndividualCustomerNamePrefixCode:S4:cu~
AccountLifeCycleStatusCode:S2:f+ MainContactLifeCycleStatusCode:S2:f+ LifeCycleStatusCode:S2:f+ ExternalID:S35:f
CreatedBy:S480:f LastChangedBy:S480:f EntityLastChangedOn:D:f ETag:D

# LeadAttachmentFolder cud parent=Lead
ETag:D Binary:X:c CategoryCode:S1:cf!+ CreatedBy:S80:f CreatedOn:T:f DocumentLink:s:cf LastUpdatedBy:S80:f
LastUpdatedOn:T:f LeadID:s35:cf^ LinkWebURI:s:cf MimeType:s:cf Name:s:cf ObjectID:S70:f! ParentObjectID:S70:cf
TypeCode:S5:cf+ UUID:G:f!

# LeadBusinessTransactionDocumentReference cud parent=Lead back=Lead
ObjectID:S70:f! ParentObjectID:S70:cf LeadID:S35:cf^ ID:S35:cuf UUID:G:cuf TypeCode:S15:cuf+
BusinessTransactionDocumentRelationshipRoleCode:S3:cuf+ ItemID:S10:cuf ItemUUID:G:cuf ItemTypeCode:S5:cuf+
BusinessTransactionDocumentReferenceBusinessSystemID:S32:cuf ETag:D

# LeadParty cud parent=Lead back=Lead
ObjectID:S70:f! ParentObjectID:S70:cf LeadID:S35:cf^ UUID:G:f RoleCategoryCode:S3:f+ RoleCode:S10:cuf+ PartyID:S60:cuf
PartyTypeCode:S15:cuf+ PartyUUID:G:cuf PartyName:S480:f MainIndicator:B:cuf MarketingPermissionAlternativeID:S40:f
ETag:D

# LeadTextCollection cud parent=Lead back=Lead
ObjectID:S70:f! ParentObjectID:S70:cf ETag:D LeadID:S35:f^ Text:s:cuf FormattedText:s:f LanguageCode:S2:cuf+
TypeCode:S5:f+ AuthorUUID:G:cuf AuthorName:S40:cuf CreatedOn:D:f CreatedBy:S80:f UpdatedOn:D:f LastUpdatedBy:S80:f
EntityLastChangedOn:D:f

# Opportunity cud
ObjectID:S70:f! ProcessingTypeCode:S4:cf+ ID:S35:cf ExternalID:S35:uf UUID:G:f ProspectPartyID:S60:cuf! Name:S255:cuf!
PrimaryContactPartyID:S60:cuf PriorityCode:S1:cuf+ OriginTypeCode:S3:cuf+ LifeCycleStatusCode:S2:cuf+
ExternalUserStatusCode:S5:cuf+%ProcessingTypeCode ResultReasonCode:S3:cuf+ SalesCycleCode:S3:cuf+
SalesCyclePhaseCode:S3:cuf+ ProcessStatusValidSinceDate:d:cuf SalesCyclePhaseStartDate:d:cuf
ProbabilityPercent:N16.6:cuf HeaderRevenueSchedule:B:cuf SalesRevenueForecastRelevanceIndicator:B:cuf
ExpectedRevenueAmount:N28.6:cuf ExpectedRevenueAmountCurrencyCode:S3:cuf+ TotalExpectedNetAmount:N28.6:f
TotalExpectedNetAmountAmountCurrencyCode:S3:f+ WeightedExpectedNetAmount:N28.6:f
WeightedExpectedNetAmountCurrencyCode:S3:f+ ExpectedProcessingStartDate:d:cuf ExpectedProcessingEndDate:d:cuf
ExpectedRevenueStartDate:d:cuf ExpectedRevenueEndDate:d:cuf SalesForecastCategoryCode:S4:cuf+ GroupCode:S4:cuf+
SalesUnitPartyID:S60:cuf SalesOrganisationID:S20:cuf DistributionChannelCode:S2:cuf+ DivisionCode:S2:cuf+
SalesOfficeID:S20:cuf SalesGroupID:S20:cuf SalesTerritoryID:S6:cuf MainEmployeeResponsiblePartyID:S60:cuf!
EndBuyerPartyID:S60:cuf ProductRecepientPartyID:S60:cuf ApproverPartyID:S60:cuf PayerPartyID:S60:cuf
BillToPartyID:S60:cuf SellerPartyID:S60:cuf PhaseProgressEvaluationStatusCode:S2:cuf+ ProspectBudgetAmount:N28.6:cuf
ProspectBudgetAmountCurrencyCode:S3:f+ Score:I:f MainEmployeeResponsiblePartyName:S480:f SalesUnityPartyName:S480:f
BillToPartyName:S480:f ProductRecipientPartyName:S40:f SellerPartyName:S480:f PayerPartyName:S480:f
EndBuyerPartyName:S480:f PrimaryContactPartyName:S480:f ProspectPartyName:S480:f ApproverPartyName:S480:f
SalesOrganisationName:S40:f SalesOfficeName:S40:f SalesGroupName:S40:f SalesTerritoryName:S40:f
ConsistencyStatusCode:S2:f+ ApprovalStatusCode:S2:f+ CreationDate:d:f! LastChangeDate:d:f! CreationDateTime:D:f!
LastChangeDateTime:D:f CreatedBy:S480:f LastChangedBy:S80:f CreatedByUUID:G LastChangedByUUID:G
EntityLastChangedOn:D:f ETag:D:f BestConnectedColleague:S255:f DealScore:N16.6:f DealScoreReason:S255:f
FirstEmailReceivedOn:D:f FirstEmailSentOn:D:f LastDataHugSyncDateTime:D:f LastEmailReceivedFrom:S255:f
LastEmailReceivedOn:D:f LastEmailSentBy:S255:f LastEmailSentOn:D:f LastMeetingOn:D:f NextMeetingOn:D:f
NumberOfColleagues:I:f NumberOfMeetings:I:f NumberOfOtherPeopleAtCompany:I:f NumberOfReceivedEmails:I:f
NumberOfSentEmails:I:f AutoCreateContacts:B:f HugRank:I:f ExternalProbabilityPercent:N16.6:cuf

# OpportunityAttachmentFolder cud parent=Opportunity
ETag:D Binary:X:c CategoryCode:S1:cf!+ CreatedBy:S80:f CreatedOn:T:f DocumentLink:s:cf LastUpdatedBy:S80:f
LastUpdatedOn:T:f LinkWebURI:s:cf MimeType:s:cf Name:s:cf ObjectID:S70:f! OpportunityID:s35:cf^ ParentObjectID:S70:cf
TypeCode:S5:cf+ UUID:G:f!

# OpportunityBusinessTransactionDocumentReference cud parent=Opportunity back=Opportunity
ObjectID:S70:f! ParentObjectID:S70:cf OpportunityID:S35:cf^ ID:S35:cuf! TypeCode:S15:cuf!+
BusinessTransactionDocumentRelationshipRoleCode:S3:cuf+ MainIndicator:B:cuf ItemID:S10:cuf ItemTypeCode:S5:cuf+
SalesCycleCode:S3:cuf+ SalesCyclePhaseCode:S3:cuf+ SalesCyclePhaseStepCode:S3:cuf+
BusinessTransactionDocumentReferenceBusinessSystemID:S32:cuf OpportunityLastChangeDateTime:D:f ETag:D

# OpportunityParty cud parent=Opportunity back=Opportunity
ObjectID:S70:f! ParentObjectID:S70:cf OpportunityID:S35:cf^ PartyID:S60:cuf! RoleCategoryCode:S3:cuf+
RoleCode:S10:cuf!+ PartyTypeCode:S15:cuf+ MainIndicator:B:cuf PartyName:S480:f Phone:S40:f! Mobile:S40:f!
Email:S255:f! OpportunityLastChangeDateTime:D:f ETag:D:f

# OpportunityTextCollection cud parent=Opportunity back=Opportunity
ObjectID:S70:f! ParentObjectID:S70:cf OpportunityID:S35:cf^ Text:s:cuf TypeCode:S5:cuf+ AuthorName:S40:cuf
AuthorUUID:G:cuf CreatedOn:D:f CreatedBy:S80:f UpdatedOn:D:f LastUpdatedBy:S80:f ETag:D EntityLastChangedOn:D:f

# ServiceRequest cud
ObjectID:S70:f! ProductRecipientPartyID:S60:cuf ProductRecipientPartyUUID:G:cuf ProductRecipientPartyName:S480:f
IncidentServiceIssueCategoryID:S25:cuf ID:S35:cf UUID:G:f ProcessingTypeCode:S4:cuf+ Name:S255:cuf
DataOriginTypeCode:S3:cf+ EscalationStatusCode:S2:cuf+ SerialID:S30:cuf ProductID:S60:cuf ServicePriorityCode:S1:cuf+
ServiceRequestUserLifeCycleStatusCode:S2:cuf+ RequestedFulfillmentPeriodStartDateTime:S33:cuf
RequestedFulfillmentPeriodEndDateTime:S33:cuf RequestedTotalProcessingDuration:S20:cuf
RequestedTotalRequestorDuration:S20:cuf RequestInitialReceiptdatetimecontent:S33:cuf
RequestInProcessdatetimeContent:S33:cuf RequestCloseddatetimeContent:S33:cuf RequestFinisheddatetimeContent:S33:cuf
FirstReactionDuedatetimeContent:S33:cuf CompleteDuedatetimeContent:S33:cuf WarrantyStartdatetimeContent:S33:cuf
SalesOrganisationID:S20:cuf DivisionCode:S2:cuf+ DistributionChannelCode:S2:cuf+ SalesUnitPartyID:S60:cuf
ServiceExecutionTeamPartyID:S60:cuf ServiceSupportTeamPartyID:S60:cuf ServicePerformerPartyID:S60:cuf
ProcessorPartyID:S60:cuf BuyerPartyID:S60:cuf BuyerMainContactPartyID:S60:cuf ReportedForPartyID:S60:cuf
InstallationPointID:S40:cuf InstalledBaseID:S40:cuf InstallationPointUUID:G:cuf WarrantyGoodwillCode:S2:cuf+
EscalationTimePointDateTime:S33:cuf OnSiteArrivalDueDateTime:S33:cuf OnSiteArrivalDateTime:S33:cuf
ServiceSupportTeamPartyName:S480:f ResolutionDueDateTime:S33:cuf ResolvedOnDateTime:S33:cuf SalesTerritoryID:S6:cuf
ResolutionDuetimeZoneCode:S10:cuf+ EscalationTimePointtimeZoneCode:S10:cuf+ OnSiteArrivalDuetimeZoneCode:S10:cuf+
RequestInProcessdatetimeZoneCode:S10:cuf+ WarrantyStartdatetimeZoneCode:S10:cuf+
RequestCloseddatetimeZoneCode:S10:cuf+ RequestedFulfillmentPeriodStarttimeZoneCode:S10:cuf+
RequestedFulfillmentPeriodEndtimeZoneCode:S10:cuf+ RequestFinisheddatetimeZoneCode:S10:cuf+
FirstReactionDuedatetimeZoneCode:S10:cuf+ ResolvedOntimeZoneCode:S10:cuf+ CompleteDuedatetimeZoneCode:S10:cuf+
RequestInitialReceiptdatetimeZoneCode:S10:cuf+ OnSiteArrivaltimeZoneCode:S10:cuf+ SalesUnitPartyName:S480:f
ServiceExecutionTeamPartyName:S480:f ServicePerformerPartyName:S480:f ProcessorPartyName:S480:f BuyerPartyName:S480:f
BuyerMainContactPartyName:S480:f ReportedForPartyName:S480:f ProductDescription:S40:f
InstallationPointDescription:S40:f InstalledBaseDescription:S40:f ServiceTermsServiceIssueName:S40:f
SalesTerritoryName:S40:f BuyerPartyUUID:G:cu ReportedForPartyUUID:G:cu BuyerMainContactPartyUUID:G:cu
ProcessorPartyUUID:G:cu ServicePerformerPartyUUID:G:cu ServiceSupportTeamPartyUUID:G:cu
ServiceExecutionTeamPartyUUID:G:cu SalesUnitPartyUUID:G:cu InstalledBaseUUID:G:cu WarrantyUUID:G:cu
SalesTerritoryUUID:G:cu WarrantyID:S60:cuf ObjectServiceIssueCategoryID:S25:cuf CauseServiceIssueCategoryID:S25:cuf
ActivityServiceIssueCategoryID:S25:cuf MainTicketID:S35:cuf ContractID:S35:cuf ReportedPartyID:S60:cuf
ReportedPartyUUID:G:cuf ServiceIssueCategoryID:S25:cuf ServiceRequestClassificationCode:S2:cuf+ CreationDateTime:D:f
PartnerContactPartyID:S60:cuf PartnerContactPartyUUID:G:cuf ReportedPartyName:S480:f ChangedByCustomerIndicator:B:cuf
ResponseByProcessorDateTimeContent:S33:cuf ResponseByProcessorDateTimeZoneCode:S10:cuf+
ResponseByProcessorDueDateTime:S33:cuf ResponseByProcessorDueDateTimeZoneCode:S10:cuf+ ServiceLevelObjectiveID:S40:cuf
ServiceLevelObjectiveName:S40:f ServiceLevelObjectiveNamelanguageCode:S2:f+ ResponseByRequesterDateTimeContent:S33:cuf
ResponseByRequesterDateTimeZoneCode:S10:cuf+ InstallationPointIDV1:S40:f LastChangeDateTime:D:f
CreationIdentityUUID:G:f LastChangeIdentityUUID:G:f SolutionCategoryName:S40:f CauseCategoryName:S40:f
ObjectCategoryName:S40:f IncidentCategoryName:S40:f CreatedBy:S480:f LastChangedBy:S480:f WarrantyFrom:d:cuf
WarrantyTo:d:cuf ServiceRequestLifeCycleStatusCode:S2:f+ RequestAssignmentStatusCode:S2:f+ DocumentLanguageCode:S2:f+
EntityLastChangedOn:D:f ETag:D SalesOrderID:S35:cuf SalesOrderUUID:G:cuf SalesOrderItemUUID:G:cuf

# ServiceRequestAttachmentFolder cud parent=ServiceRequest
ObjectID:S70:f! ParentObjectID:S70:cf ServiceRequestID:s35:cf^ UUID:G:f! TypeCode:S5:cf+ MimeType:s:cf Binary:X:c
DocumentLink:s:cf Name:s:cf CategoryCode:S1:cf!+ LinkWebURI:s:cf CreatedOn:T:f LastUpdatedOn:T:f CreatedBy:S80:f
LastUpdatedBy:S80:f ETag:D

# ServiceRequestBusinessTransactionDocumentReference cud parent=ServiceRequest back=ServiceRequest
ObjectID:S70:f! ParentObjectID:S70:cf TypeCode:S15:cuf+ RoleCode:S3:cuf+ ID:S35:cuf BusinessSystemID:S32:cuf ETag:D

# ServiceRequestParty cud parent=ServiceRequest back=ServiceRequest
ObjectID:S70:f! ParentObjectID:S70:cf ETag:D PartyID:S60:cuf PartyUUID:G:cuf RoleCategoryCode:S3:cuf+
RoleCode:S10:cuf+ Main:B:cuf DeterminationMethodCode:S2:f+ PartyName:S480:f Phone:S40:f Mobile:S40:f Email:S255:f

# ServiceRequestTextCollection cud parent=ServiceRequest back=ServiceRequest
ObjectID:S70:f! ParentObjectID:S70:cf ServiceRequestID:S35:cf^ TypeCode:S5:cuf+ LanguageCode:S2:cuf+ Text:s:cuf
FormattedText:s:cuf! UpdatedOn:D:f CreatedBy:S80:f LastUpdatedBy:S80:f AuthorName:S40:f AuthorUUID:G:cuf CreatedOn:D:f
TextCreatedOn:D:cuf AuthorID:S60:cu! EntityLastChangedOn:D:f ETag:D

# SalesQuote cud
ObjectID:S70:f! ID:S35:cf BuyerID:S35:cuf Name:S255:cuf ProcessingTypeCode:S4:cuf+ BuyerPartyID:S60:cuf
BuyerPartyName:S480:f BuyerContactPartyID:S60:cuf BuyerContactPartyName:S480:f ProductRecipientPartyID:S60:cuf
ProductRecipientPartyName:S480:f EmployeeResponsiblePartyID:S60:cuf EmployeeResponsiblePartyName:S480:f
SalesUnitPartyID:S60:cuf SalesUnitPartyName:S480:f SalesOrganisationID:S20:cuf SalesOrganisationName:S40:f
SalesOfficeID:S20:cuf SalesOfficeName:S40:f SalesGroupID:S20:cuf SalesGroupName:S40:f DistributionChannelCode:S2:cuf+
DivisionCode:S2:cuf+ SalesTerritoryID:S6:cuf SalesTerritoryName:S40:f DateTime:D:cuf
RequestedFulfillmentStartDateTime:S33:cu PriceDateTime:D:cuf TimeZoneCode:S10:cu~ ValidFromDate:d:cuf
ValidToDate:d:cuf CurrencyCode:S3:cuf+ DocumentLanguageCode:S2:cuf+ DeliveryPriorityCode:S2:cuf+
IncotermsClassificationCode:S3:cuf+ IncotermsTransferLocationName:S28:cuf ProbabilityPercent:N5.2:cuf
CancellationReasonCode:S4:cuf+ OrderReasonCode:S3:cuf+ MainDiscount:N31.14:cu NetAmount:N28.6:cuf
NetAmountCurrencyCode:S3:f+ GrossAmount:N28.6:cuf GrossAmountCurrencyCode:S3:f+ TaxAmount:N28.6:cuf
TaxAmountCurrencyCode:S3:f+ CashDiscountTermsCode:S4:cuf+ ConfirmationExistenceIndicator:B:f
ConsistencyStatusCode:S2:f+ LifeCycleStatusCode:S2:f+ CancellationStatusCode:S2:f+ ResultStatusCode:S2:f+
ApprovalStatusCode:S2:f+ OrderingStatusCode:S2:f+ CreditWorthinessStatusCode:S2:f+
ReplicationProcessingStatusCode:S2:f+ ProductAvailabilityStatusCode:S2:f+ PriceCalculationStatusCode:S2:~
PricingProcedureCode:S6:~ ExternalPriceCalculationStatusCode:S2:~ ExternalPricingProcedureCode:S6:~
CreationDateTime:D:f LastChangeDateTime:D:f CreatedBy:S80:f LastChangedBy:S80:f CreationIdentityUUID:G
LastChangeIdentityUUID:G VersionGroupID:S35:f VersionID:S32:f External:B:cu Submit:B:cu SetAsWon:B:cu SetAsLost:B:cu
RequestExtData:B:cu PrimaryQuote:B:cu UpdateOpportunity:B:cu RequestExtFollowup:B:u GrossWeightMeasure:N31.14:f
GrossWeightUnitCode:S3:f+ NetWeightMeasure:N31.14:f NetWeightUnitCode:S3:f+ VolumeMeasure:N31.14:f
VolumeUnitCode:S3:f+ ExternalApprovalStatusCode:S2:cu~ PlantPartyID:S60:cuf PlantPartyName:S80:f
EntityLastChangedOn:D:f ETag:D

# SalesQuoteAttachmentFolder cud parent=SalesQuote
ObjectID:S70:f! ParentObjectID:S70:cf SalesQuoteID:s35:cf^ UUID:G:f! TypeCode:S5:cf+ MimeType:s:cf Binary:X:c
DocumentLink:s:cf Name:s:cf CategoryCode:S1:cf!+ LinkWebURI:s:cf CreatedOn:T:f LastUpdatedOn:T:f CreatedBy:S80:f
LastUpdatedBy:S80:f SizeInkB:N31.14:f ETag:D

# SalesQuoteReference cud parent=SalesQuote back=SalesQuote
ObjectID:S70:f! ParentObjectID:S70:cf QuoteID:S35:cf^ RelationshipRoleCode:S3:cuf+ ID:S35:cuf TypeCode:S15:cuf+
ItemID:S10:cuf ItemTypeCode:S5:cuf+ BusinessSystemID:S32:cuf ETag:D

# SalesQuoteParty cud parent=SalesQuote back=SalesQuote
ObjectID:S70:f! ParentObjectID:S70:cf QuoteID:S35:cf^ PartyID:S60:cuf! RoleCode:S10:cuf!+ MainIndicator:B:cuf
PartyContactPartyID:S60:cuf PartyName:S480:f PartyContactPartyName:S480:f CountryCode:S3:cuf+
RegionCode:S6:cuf+%CountryCode CareOfName:S40:cu StreetPrefixName:S40:cu AdditionalStreetPrefixName:S40:cu
HouseID:S10:cu StreetName:S60:cuf StreetSuffixName:S40:cu AdditionalStreetSuffixName:S40:cu DistrictName:S40:cuf
CityName:S40:cuf AdditionalCityName:S40:cu StreetPostalCode:S10:cuf+ CountyName:S40:cuf CompanyPostalCode:S10:cuf+
POBoxIndicator:B:cuf POBoxID:S10:cuf POBoxPostalCode:S10:cuf+ POBoxDeviatingCountryCode:S3:cuf+
POBoxDeviatingRegionCode:S6:cuf+%POBoxDeviatingCountryCode POBoxDeviatingCityName:S40:cuf BuildingID:S10:cu
FloorID:S10:cu RoomID:S10:cu Phone:S40:cuf Mobile:S40:cuf Fax:S40:cuf Email:S255:cuf Web:S1280:cuf
CorrespondenceLanguageCode:S2:cuf+ PreferredCommunicationMediumTypeCode:S3:cuf+ FirstLineName:S40:cuf
SecondLineName:S40:cuf ThirdLineName:S40:cuf FourthLineName:S40:cuf ETag:D

# SalesQuoteTextCollection cud parent=SalesQuote back=SalesQuote
ObjectID:S70:f! ParentObjectID:S70:cf SalesQuoteID:S35:cf^ Text:s:cuf TypeCode:S5:cf+ AuthorName:S40:cuf
AuthorUUID:G:cuf CreatedOn:D:f CreatedBy:S80:f UpdatedOn:D:f LastUpdatedBy:S80:f EntityLastChangedOn:D:f ETag:D

# CustomerOrder cud
ObjectID:S70:f! InformationLifeCycleStatusCode:S2:f+ ClassificationCode:S3:cu~ BuyerID:S35:cuf
FulfilmentBlockingReasonCode:S2:cu~ ID:S35:cuf^ InvoicingBlockingReasonCode:S2:cu~ LastChangeDate:d:f
OrderExternalLifeCycleStatusCode:S2:cuf+ Name:S255:cuf LanguageCode:S2:cu~ ProcessingTypeCode:S4:cuf+
ItemListCancellationStatusCode:S2:cu~ ItemListFulfilmentProcessingStatusCode:S2:f+ ApprovalStatusCode:S2:f+
ConsistencyStatusCode:S2:f+ OverallBlockingStatusCode:S2:~ ReplicationProcessingStatusCode:S2:cuf+
DistributionChannelCode:S2:cuf+ DivisionCode:S2:cuf+ SalesGroupID:S20:cuf SalesOfficeID:S20:cuf
SalesOrganisationID:S20:cuf SalesTerritoryID:S6:cuf BuyerPartyID:S60:cuf! DeliveryPriorityCode:S2:cu~
TransferLocationName:S28:cu EmployeeResponsiblePartyID:S60:cuf BuyerPartyName:S480:f
EmployeeResponsiblePartyName:S480:f BuyerContactPartyID:S60:cuf BuyerContactPartyName:S480 CurrencyCode:S3:cu~
PriceDateTime:D:cu ProductRecipientPartyID:S60:cuf ProductRecipientPartyName:S480:f
RequestedFulfillmentStartDateTime:S33:cuf timeZoneCode:S10:cu~ CancellationReasonCode:S4:cu~ SalesUnitPartyID:S60:cuf
CalculationStatusCode:S2:~ ExternalPriceDocumentBaseBusinessTransactionDocumentUUID:G PricingProcedureCode:S6:~
DateTime:D:cuf OrderReasonCode:S3:cuf+ MaintenanceModeInternalOnlyMainDiscount:N31.14:cu NetAmount:N28.6:cu
NetAmountCurrencyCode:S3:~ GrossAmount:N28.6:cu GrossAmountCurrencyCode:S3:~ TaxAmount:N28.6:cu
TaxAmountCurrencyCode:S3:~ InternalPricingProcedureCode:S6:~ InternalPricingCalculationStatusCode:S2:~
NetWeightMeasure:N31.14 NetWeightUnitCode:S3:~ GrossWeightMeasure:N31.14 GrossWeightUnitCode:S3:~ VolumeMeasure:N31.14
VolumeUnitCode:S3:~ Simulate:B:cu SubmitForApproval:B:cu Transfer:B:u WithdrawFromApproval:B:u SetAsCompleted:B:cu
PlantPartyID:S60:cuf PlantPartyName:S80:f EntityLastChangedOn:D:f ETag:D

# CustomerOrderAttachmentFolder cud parent=CustomerOrder
ETag:D Binary:X:c CategoryCode:S1:cf!+ CreatedBy:S80:f CreatedOn:T:f DocumentLink:s:cf LastUpdatedBy:S80:f
LastUpdatedOn:T:f LinkWebURI:s:cf MimeType:s:cf Name:s:cf ObjectID:S70:f! ParentObjectID:S70:cf SalesOrderID:s35:cf^
SizeInkB:N31.14:f TypeCode:S5:cf+ UUID:G:f!

# CustomerOrderBusinessTransactionDocumentReference cud parent=CustomerOrder back=CustomerOrder
ObjectID:S70:f! ParentObjectID:S70:cf BusinessSystemID:S32:cuf TypeCode:S15:cuf+ UUID:G:cu RoleCode:S3:cu~ ID:S35:cu
SalesOrderID:S35:cf^ ETag:D

# CustomerOrderParty cud parent=CustomerOrder back=CustomerOrder
ObjectID:S70:f! ParentObjectID:S70:cf TimeZoneCode:S10:u~ PartyName:S480:u PartyID:S60:cuf RoleCode:S10:cuf+
SalesOrderID:S35:cf^ PreferredCommunicationMediumTypeCode:S3:~ MainIndicator:B:cu ConventionalPhone:S350:u
Email:S765:u Web:S1280:u Fax:S350:u MobilePhone:S350:u FirstLineName:S240:u SecondLineName:S240:u ThirdLineName:S240:u
FourthLineName:S240:u CareOfName:S240:u CityName:S240:u CountryCode:S3:u~ CountyName:S240:u DistrictName:S240:u
StreetPrefixName:S240:u AdditionalStreetPrefixName:S240:u HouseID:S100:u StreetName:S360:u StreetSuffixName:S240:u
AdditionalStreetSuffixName:S240:u RegionCode:S6:u~% StreetPostalCode:S100:u POBoxIndicator:B:u POBoxID:S100:u
POBoxPostalCode:S100:u POBoxDeviatingCityName:S240:u POBoxDeviatingCountryCode:S3:u~ POBoxDeviatingRegionCode:S6:u~%
ETag:D

# CustomerOrderTextCollection cud parent=CustomerOrder back=CustomerOrder
ObjectID:S70:f! ParentObjectID:S70:cf SalesOrderID:S35:cf^ Text:s:cuf LanguageCode:S2:cuf+ TypeCode:S5:cuf+
AuthorName:S40:cuf AuthorUUID:G:cuf CreatedOn:D:f CreatedBy:S80:f UpdatedOn:D:f LastUpdatedBy:S80:f ETag:D
EntityLastChangedOn:D:f

# Employee cu
ObjectID:S70:f! EmployeeID:S20:cf UUID:G:f UserID:S40:cuf IdentityUUID:G:f BusinessPartnerID:S10:f
BusinessPartnerFormattedName:S480:f EmployeeValidityStartDate:d:cuf EmployeeValidityEndDate:d:cuf TitleCode:S4:cuf+
AcademicTitleCode:S4:cuf+ FirstName:S40:cuf! MiddleName:S40:cuf LastName:S40:cuf! SecondLastName:S40:cuf
NickName:S40:cuf GenderCode:S1:cuf+ MaritalStatusCode:S1:cuf+ LanguageCode:S2:cuf+ NationalityCountryCode:S3:cuf+
BirthName:S40:cuf BirthDate:d:cuf BirthPlace:S40:cuf FormattedPostalAddressDescription:S480:f CountryCode:S3:cuf+
RegionCode:S6:cuf+%CountryCode CareOfName:S40:cuf AddressLine1:S40:cuf AddressLine2:S40:cuf HouseNumber:S10:cuf
Street:S60:cuf AddressLine4:S40:cuf AddressLine5:S40:cuf District:S40:cuf City:S40:cuf DifferentCity:S40:cuf
PostalCode:S10:cuf County:S40:cuf CompanyPostalCode:S10:cuf POBox:S10:cuf POBoxPostalCode:S10:cuf
POBoxCountryCode:S3:cuf+ POBoxRegionCode:S6:cuf+%POBoxCountryCode POBoxCity:S40:cuf TimeZoneCode:S10:cuf+
TaxJurisdictionCode:S25:cuf+ Building:S10:cuf Floor:S10:cuf Room:S10:cuf InhouseMail:S10:cuf OfficePhoneNumber:S40:cuf
MobilePhoneNumber:S40:cuf FaxNumber:S40:cuf Email:S255:cuf UserValidityStartDate:d:cuf UserValidityEndDate:d:cuf
UserPasswordPolicyCode:S40:cuf+ UserLockedIndicator:B:cuf UserCountedIndicator:B:f NormalisedOfficePhoneNumber:S40:f
NormalisedMobilePhoneNumber:S40:f CreatedOn:D:f CreatedBy:S480:f ChangedOn:D:f ChangedBy:S480:f
EntityLastChangedOn:D:f ETag:D
-> BusinessUser BusinessUser EmployeeID = EmployeeID

# EmployeeBasicData -
ObjectID:S70:f! ETag:D EmployeeID:S20:f EmployeeUUID:G:f UserID:S40:f IdentityUUID:G:f BusinessPartnerID:S10:f
CurrentInternalEmployeeIndicator:B:f CurrentExternalEmployeeIndicator:B:f FormattedName:S480:f TitleCode:S4:f=
AcademicTitleCode:S4:f= FirstName:S40:f MiddleName:S40:f LastName:S40:f SecondLastName:S40:f NickName:S40:f
GenderCode:S1:f= LanguageCode:S2:f= FormattedAddress:S480:f CountryCode:S3:f= RegionCode:S6:f=%CountryCode
AddressLine1:S40:f AddressLine2:S40:f HouseNumber:S10:f Street:S60:f AddressLine4:S40:f AddressLine5:S40:f City:S40:f
PostalCode:S10:f Phone:S40:f Mobile:S40:f Fax:S40:f Email:S255:f UserValidityStartDate:d:f UserValidityEndDate:d:f
UserPasswordPolicyCode:S40:f= UserLockedIndicator:B:f TimeZoneCode:S10:f= ManagerUUID:G:f ManagerFormattedName:S480:f
JobName:S40:f CreatedOn:D:f CreatedBy:S480:f ChangedOn:D:f ChangedBy:S480:f EntityLastChangedOn:D:f
-> BusinessUser BusinessUser EmployeeID = EmployeeID
-> ManagerEmployeeBasicData EmployeeBasicData ManagerUUID = EmployeeUUID

# BusinessUser u
ObjectID:S70:f! ETag:D EmployeeID:S20:f EmployeeUUID:G:f UserID:S40:uf! TechnicalUserID:S255:f IdentityUUID:G:f
BusinessPartnerID:S10:f BusinessPartnerFormattedName:S480:f DepartmentName:S40:f CompanyName:S40:f ManagerName:S480:f
EmailURI:S255:f DecimalFormatCode:S2:uf+ DateFormatCode:S2:uf+ TimeFormatCode:S2:uf+ TimeZoneCode:S10:uf+
LogonLanguageCode:S2:uf+ UserValidityStartDate:d:uf UserValidityEndDate:d:uf UserLockedIndicator:B:uf
UserCountedIndicator:B:f PasswordPolicyCode:S40:uf+ PasswordInactiveIndicator:B:f PasswordLockedIndicator:B:f
UserAccountTypeCode:S1:f+ CreatedOn:D:f UserCreatedBy:S480:f EntityLastChangedOn:D:f UserChangedBy:S480:f
UserChangedOn:D:f
-> EmployeeBasicData EmployeeBasicData EmployeeID = EmployeeID

# LoggedInUserInfo -
ObjectID:S70:f! UserID:S40 UserName:S480 UserAccountID:S255 UUID:G EmployeeID:S20:f BusinessPartnerID:S10:f
EmployeeUUID:G Email:S765 DateFormatCode:S2:~ DecimalFormatCode:S2:~ LogonLanguageCode:S2:~ TimeFormatCode:S2:~
TimeZoneCode:S10:~ TechnicalUserIndicator:B KeyUserIndicator:B InactiveIndicator:B PasswordInactiveIndicator:B
PasswordLockedIndicator:B PasswordPolicyCode:S40:~ UserAccountTypeCode:S1:~ StatusCode:S2:~ CreatedOn:D CreatedBy:S480
ChangedOn:D ChangedBy:S480 CreatedByUUID:G ChangedByUUID:G EntityLastChangedOn:D:f

# Appointment cud
ObjectID:S70:f! DocumentType:S4:cuf+ ID:S35:f! Subject:S765:cuf LifeCycleStatusCode:S2:cuf+ StartDate:D:cuf
StartDatetimeZoneCode:S10:cuf+ EndDate:D:cuf EnddatetimeZoneCode:S10:cuf+ OrganizerUUID:G:cuf OrganizerPartyID:S60:cuf
Owner:G:cuf PrimaryContact:G:cuf OwnerPartyID:S60:cuf FullDayIndicator:B:cuf Category:S4:cuf+% Account:G:cuf
MainAccountPartyID:S60:cuf MainContactPartyID:S60:cuf Location:S480:cuf Priority:S1:cuf+ SalesTerritoryUUID:G:cuf
SalesTerritoryID:S6:cuf SalesTerritoryName:S40:f SalesOrganisation:S20:cuf DistributionChannel:S2:cuf+
Division:S2:cuf+ VisitTourPlanUUID:G:cuf InformationSensitivityCode:S1:cuf+ AccountName:S480:f
AdditionalLocationName:S765:cuf ChangedBy:S480:f CompletionPercent:N5.2:cuf CreatedBy:S480:f CreatedOn:D:f
DataOriginTypeCode:S3:cuf+ GroupwareItemID:S765:cuf OrganizerEmailURI:S254:cuf OrganizerName:S480:f
OrganizerPartyName:S255:cuf OwnerName:S480:f Phone:S40:f PrimaryContactName:S480:f ReportedDateTime:D:f UUID:G:f
AvailabilityCode:S2:cuf+ LastChangeDateTime:D:cuf EntityLastChangedOn:D:f ETag:D VisitTypeCode:S4:cuf+
OccurrenceDate:d:cuf RecurrenceActGroupwareID:S765:cuf RecurringBusinessActivityNodeID:G:cuf

# AppointmentAttachmentFolder cud parent=Appointment
ETag:D AppointmentID:s35:cf^ Binary:X:c CategoryCode:S1:cf!+ CreatedBy:S80:f CreatedOn:T:f DocumentLink:s:cf
LastUpdatedBy:S80:f LastUpdatedOn:T:f LinkWebURI:s:cf MimeType:s:cf Name:s:cf ObjectID:S70:f! ParentObjectID:S70:cf
TypeCode:S5:cf+ UUID:G:f!

# AppointmentBTDReference cud parent=Appointment back=Appointment
ObjectID:S70:f! ParentObjectID:S70:cf AppointmentID:S35:cf^ ID:S35:cuf TypeCode:S15:cuf+ BTDRoleCode:S3:cuf+
ActivityGroupCode:S4:f+% ETag:D

# AppointmentInvolvedParties cud parent=Appointment back=Appointment
ObjectID:S70:f! ParentObjectID:S70:cf ID:S35:cf^ PartyID:S60:cuf RoleCode:S10:cuf!+ RoleCategoryCode:S3:f+
PartyTypeCode:S15:cuf+ MainIndicator:B:cuf Address:S480:f EMail:S255:f Name:S480:f PartyEmailURI:S254:cuf
PartyUUID:G:cuf PartyName:S255:cuf Phone:S40:f ETag:D StartDate:D:f

# AppointmentTextCollection cud parent=Appointment back=Appointment
ObjectID:S70:f! ParentObjectID:S70:cf AppointmentID:S35:cf^ Text:s:cuf LanguageCode:S2:cuf+ TypeCode:S5:cuf+
AuthorName:S40:cuf AuthorUUID:G:cuf CreatedOn:D:f CreatedBy:S80:f UpdatedOn:D:f LastUpdatedBy:S80:f ETag:D
GroupCode:S4:f+% EntityLastChangedOn:D:f

# Visit cud
ObjectID:S70:f! ID:S35:f Subject:S765:cuf Status:S2:cuf+ PriorityCode:S1:cuf+ Account:G:cuf MainAccountPartyID:S60:cuf
AccountPartyName:S255:cuf PrimaryContactUUID:G:cuf MainContactPartyID:S60:cuf PrimaryContactPartyName:S255:cuf
Owner:G:cuf OwnerPartyID:S60:cuf OwnerEmailURI:S254:cuf OwnerPartyName:S255:cuf FormattedName:S480 StartDateTime:D:cuf
StartTimeZoneCode:S10:cuf+ EndDateTime:D:cuf EndTimeZoneCode:S10:cuf+ AllDayEvent:B:cuf ActualStartDateTime:D:cuf
ActualEndDateTime:D:cuf Organizer:G:cuf OrganizerPartyID:S60:cuf OrganizerPartyName:S255:cuf
OrganizerEmailURI:S254:cuf SalesTerritoryID:S6:cuf SalesTerritoryName:S40:f SalesOrganisationID:S20:cuf
DistributionChannel:S2:cuf+ Division:S2:cuf+ PerfectStoreIndicator:B:cf VisitType:S4:cuf+ AddressSnapshotUUID:G:cu
Location:S480:cuf EntityLastChangedOn:D:f ETag:D DataOriginTypeCode:S3:cuf+ AdditionalLocationName:S765:cuf
CreationDateTime:D:f GroupwareItemID:S765:cuf Route:G:f Tour:G:cuf ReportedDateTime:D:f UUID:G:f
MarkedForDeletion:B:cuf MarkedForDeletionDate:d:cuf LastChangeDateTime:D:cuf RecurringBusinessActivityNodeID:G:cuf
RecurrenceActGroupwareID:S765:cuf OccurrenceDate:d:cuf

# VisitAttachment cud parent=Visit
ETag:D Binary:X:c CategoryCode:S1:cf!+ CreatedBy:S80:f CreatedOn:T:f DocumentLink:s:cf LastUpdatedBy:S80:f
LastUpdatedOn:T:f LinkWebURI:s:cf MimeType:s:cf Name:s:cf ObjectID:S70:f! ParentObjectID:S70:cf TypeCode:S5:cf+
UUID:G:f! VisitID:s35:cf^

# VisitBTDReference cud parent=Visit back=Visit
ObjectID:S70:f! ParentObjectID:S70:cf VisitID:S35:cf^ ID:S35:cuf ItemUUID:G:cuf TypeCode:S15:cuf+ BTDRoleCode:S3:cuf+
ETag:D

# VisitParty cud parent=Visit back=Visit
ObjectID:S70:f! ParentObjectID:S70:cf VisitID:S35:cf^ PartyID:S60:cuf PartyName:S255:cuf FormattedPhoneNumber:S40:cuf
Email:S254:cuf RoleCode:S10:cuf+ PartyTypeCode:S15:cuf+ AddressSnapshotUUID:G:cu MainIndicator:B:cuf PartyUUID:G:cuf
ETag:D

# VisitTextCollection cud parent=Visit back=Visit
ObjectID:S70:f! ParentObjectID:S70:cf VisitID:S35:cf^ Text:s:cuf LanguageCode:S2:cuf+ TypeCode:S5:cuf+
AuthorName:S40:cuf AuthorUUID:G:cuf CreatedOn:D:f CreatedBy:S80:f UpdatedOn:D:f LastUpdatedBy:S80:f ETag:D
EntityLastChangedOn:D:f

# PhoneCall cud
ObjectID:S70:f! ID:S35:f Subject:S765:cuf OrganizerPartyID:S60:cuf Status:S2:cuf+ StartDateTime:D:cuf
StartDateTimeZoneCode:S10:cuf+ EndDateTime:D:cuf EndDatetimeZoneCode:S10:cuf+ OwnerPartyID:S60:cuf Account:G:cuf
MainAccountPartyID:S60:cuf PrimaryContact:G:cuf MainContactPartyID:S60:cuf InitiatorCode:S1:cuf+ Category:S4:cuf+%
Priority:S1:cuf+ SalesTerritory:G:cuf SalesTerritoryID:S6:cuf SalesTerritoryName:S40:f SalesOrganisation:S20:cuf
DistributionChannel:S2:cuf+ DivisionCode:S2:cuf+ DocumentType:S4:cuf+ ActivityList:G:cuf ResponseOptionID:S10:f
AccountFormattedName:S480:f CampaignDescription:S80:f CampaignUUID:G:cuf EntityLastChangedOn:D:f ETag:D
CreatedByFormattedName:S480:f CreatedOn:D:f OwnerFormattedName:S480:f OwnerUUID:G:cuf Phone:S40:f
PrimaryContactFormattedName:S480:f ResponseOptionDescription:S80:f UUID:G:cf LastChangeDateTime:D:cuf
DataOriginTypeCode:S3:cuf+ GroupwareItemID:S765:cuf

# PhoneCallAttachmentFolder cud parent=PhoneCall
ETag:D Binary:X:c CategoryCode:S1:cf!+ CreatedBy:S80:f CreatedOn:T:f DocumentLink:s:cf LastUpdatedBy:S80:f
LastUpdatedOn:T:f LinkWebURI:s:cf MimeType:s:cf Name:s:cf ObjectID:S70:f! ParentObjectID:S70:cf PhoneCallID:s35:cf^
TypeCode:S5:cf+ UUID:G:f!

# PhoneCallBTDReference cud parent=PhoneCall back=PhoneCall
ObjectID:S70:f! ParentObjectID:S70:cf ID:S35:cuf TypeCode:S15:cuf+ BTDRoleCode:S3:cuf+ PhoneCallID:S35:cf^
PhoneCallBusinessSystemID:S60:cuf ETag:D

# PhoneCallNotes cud parent=PhoneCall back=PhoneCall
ObjectID:S70:f! ParentObjectID:S70:cf PhoneCallID:S35:cf^ Text:s:cuf LanguageCode:S2:cuf+ TypeCode:S5:cuf+
AuthorName:S40:cuf AuthorUUID:G:cuf CreatedOn:D:f CreatedBy:S80:f UpdatedOn:D:f LastUpdatedBy:S80:f ETag:D
EntityLastChangedOn:D:f

# PhoneCallParties cud parent=PhoneCall back=PhoneCall
ObjectID:S70:f! ParentObjectID:S70:cf PhoneCallID:S35:cf^ PartyUUID:G:cuf PartyID:S60:cuf PartyTypeCode:S15:cuf+
RoleCode:S10:cuf+ RoleCategoryCode:S3:f+ MainIndicator:B:cuf Address:S480:f Email:S255:cuf Name:S480:cuf
PartyEmailURI:S254:cuf PartyName:S255:cuf Phone:S40:f ETag:D StartDateTime:D:f

# Tasks cud
ObjectID:S70:f! DocumentType:S4:cuf+ ID:S35:f Subject:S765:cuf Status:S2:cuf+ StartDateTime:D:cuf
StartDatetimeZoneCode:S10:cuf+ ActivityList:G:cuf DueDateTime:D:cuf DueDatetimeZoneCode:S10:cuf+
PlannedDuration:S20:cuf ActualDuration:S20:cuf CompletionDateTime:D:cuf MainEmployeeResponsiblePartyID:S60:cuf
MainAccountPartyID:S60:cuf MainContactPartyID:S60:cuf ProcessorPartyID:S60:cuf CompletionPercent:N5.2:cuf
Category:S4:cuf+% PriorityCode:S1:cuf+ SalesTerritoryID:S6:cuf SalesTerritoryName:S40:f SalesOrganisationID:S20:cuf
DistributionChannelCode:S2:cuf+ DivisionCode:S2:cuf+ Account:S480:f AccountUUID:G:cuf DataOriginTypeCode:S3:cuf+
Owner:S480:f OwnerUUID:G:cuf PrimaryContact:S480:f PrimaryContactUUID:G:cuf Processor:S480:f
ProcessorEmailURI:S254:cuf ProcessorPartyName:S255:cuf ProcessorUUID:G:cuf ReportedDateTime:D:f UUID:G:f
ChangedBy:S480:f LastChangeDateTime:D:cuf EntityLastChangedOn:D:f ETag:D

# TasksAttachmentFolder cud parent=Tasks
ETag:D Binary:X:c CategoryCode:S1:cf!+ CreatedBy:S80:f CreatedOn:T:f DocumentLink:s:cf LastUpdatedBy:S80:f
LastUpdatedOn:T:f LinkWebURI:s:cf MimeType:s:cf Name:s:cf ObjectID:S70:f! ParentObjectID:S70:cf TaskID:s35:cf^
TypeCode:S5:cf+ UUID:G:f!

# TasksBTDReference cud parent=Tasks back=Tasks
ObjectID:S70:f! ParentObjectID:S70:cf TaskID:S35:cf^ ID:S35:cuf TypeCode:S15:cuf+ BTDRoleCode:S3:cuf+ ETag:D

# TasksInvolvedParties cud parent=Tasks back=Tasks
ObjectID:S70:f! ParentObjectID:S70:cf TaskID:S35:cf^ PartyID:S60:cuf PartyName:S480:f RoleCode:S10:cuf+
PartyTypeCode:S15:cuf+ MainIndicator:B:cuf Address:S480:f EMail:S255:f PartyEmailURI:S254:cuf Party:S255:cuf
PartyUUID:G:cuf Phone:S40:f RoleCategoryCode:S3:f+ ETag:D StartDateTime:D:f

# TasksTextCollection cud parent=Tasks back=Tasks
ObjectID:S70:f! ParentObjectID:S70:cf TaskID:S35:cf^ Text:s:cuf LanguageCode:S2:cuf+ TypeCode:S5:cuf+
AuthorName:S40:cuf AuthorUUID:G:cuf CreatedOn:D:f CreatedBy:S80:f UpdatedOn:D:cf LastUpdatedBy:S80:f ETag:D
EntityLastChangedOn:D:f

# MemoActivity cud set=ActivityCollection
ObjectID:S70:f! ETag:D ID:S35:f ProcessingTypeCode:S4:f@ActivityProcessingTypeCodeCollection
PriorityCode:S1:cuf@ActivityPriorityCodeCollection ReportedDate:d:f ReportedDateTime:D:f SubjectName:S765:cuf UUID:G:f
TypeCode:S15:f@ActivityTypeCodeCollection LifeCycleStatusCode:S2:cuf@ActivityLifeCycleStatusCodeCollection
InitiatorCode:S1:cuf@ActivityInitiatorCodeCollection CreationDate:d:f EntityLastChangedOn:D:f

# MemoActivityAttachmentFolder cud parent=MemoActivity as=ActivityAttachmentFolder
ActivityID:s35:^ Binary:X:c CategoryCode:S1:cf!@ActivityAttachmentFolderCategoryCodeCollection CreatedBy:S80:f
CreatedOn:T:f DocumentLink:s:cf DocumentTitle:s:cf ETag:D LastUpdatedBy:S80:f LastUpdatedOn:T:f LinkWebURI:s:cf
MimeType:s:cf Name:s:cf ObjectID:S70:f! OutputRelevanceIndicator:B:cf ParentObjectID:S70:f SizeInkB:N31.14:f
TypeCode:S5:cf@ActivityAttachmentFolderTypeCodeCollection UUID:G:f!

# MemoActivityBusinessTransactionDocumentReference cud parent=MemoActivity
#   as=ActivityBusinessTransactionDocumentReference back=Activity
ObjectID:S70:f! ParentObjectID:S70:cf ETag:D ID:S35:cuf
TypeCode:S15:cuf@ActivityBusinessTransactionDocumentReferenceTypeCodeCollection
RoleCode:S3:cuf@ActivityBusinessTransactionDocumentReferenceRoleCodeCollection

# MemoActivityParty cud parent=MemoActivity as=ActivityParty back=Activity
ObjectID:S70:f! ParentObjectID:S70:cf ETag:D PartyID:S60:cuf PartyName:S255:f
PartyTypeCode:S15:cuf@ActivityPartyPartyTypeCodeCollection RoleCode:S10:cuf@ActivityPartyRoleCodeCollection
MainIndicator:B:cuf

# MemoActivityText cud parent=MemoActivity as=ActivityText back=Activity
ObjectID:S70:f! ParentObjectID:S70:cf ETag:D Text:s:cuf LanguageCode:S2:cuf@ActivityTextLanguageCodeCollection
TypeCode:S5:cuf@ActivityTextTypeCodeCollection AuthorUUID:G:cuf AuthorName:S40:cuf CreatedOn:D:f CreatedBy:S80:f
UpdatedOn:D:f LastUpdatedBy:S80:f FormattedText:s:cuf languageCode:S2:cuf@ActivityTextlanguageCodeCollection
EntityLastChangedOn:D:f

# EMail cud
ObjectID:S70:f! ID:S35:f Subject:S765:cuf Status:S2:cuf+ Category:S4:cuf+% PriorityCode:S1:cuf+ DateTime:D:cuf
DateTimetimeZoneCode:S10:cuf+ TransmissionStatusCode:S2:cuf+ OwnerPartyID:S60:cuf Account:G:cuf
MainAccountPartyID:S60:cuf PrimaryContact:G:cuf MainContactPartyID:S60:cuf Direction:S1:cuf+ SalesTerritoryID:S6:cuf
SalesTerritoryName:S40:f Campaign:G:cuf ResponseOption:S35:cuf SentimentTypeCode:S2:cuf+ DocumentType:S4:cuf+
TicketID:S36 EntityLastChangedOn:D:f ETag:D DataOriginTypeCode:S3:cuf+ AccountName:S480:f GroupwareItemID:S765:cuf
MessageFromEmailURI:S254:cuf MessageFromName:S255:cuf MessageFromPartyID:S60:cuf MessageFromPartyName:S480:f
MessageFromPartyUUID:G:cuf OwnerName:S480:f OwnerUUID:G:cuf PrimaryContactName:S480:f UUID:G:cf
LastChangeDateTime:D:uf

# EMailAttachments cud parent=EMail
ETag:D Binary:X:c CategoryCode:S1:cf!+ CreatedBy:S80:f CreatedOn:T:f DocumentLink:s:cf EMailID:s35:cf^
LastUpdatedBy:S80:f LastUpdatedOn:T:f LinkWebURI:s:cf MimeType:s:cf Name:s:cf ObjectID:S70:f! ParentObjectID:S70:cf
TypeCode:S5:cf+ UUID:G:f!

# EMailBTDReference cud parent=EMail back=EMail
ObjectID:S70:f! ParentObjectID:S70:cf ID:S35:cuf TypeCode:S15:cuf+ RoleCode:S3:cuf+ EMailID:S35:cf^
EmailBusinessSystemID:S60:cuf ETag:D

# EMailCcRecipients cud parent=EMail back=EMail
ObjectID:S70:f! ParentObjectID:S70:cf EMailParentID:S35:cf^ PartyID:S60:cuf Name:S480:cf NameLanguageCode:S2:f+
EMailID:S255:cf Phone:S40:f Address:S480:f MessageCCEMailID:S254:cuf MessageCCName:S255:cuf PartyUUID:G:cuf ETag:D

# EMailInvolvedParties cud parent=EMail back=EMail
ObjectID:S70:f! ParentObjectID:S70:cf EMailID:S35:cf^ PartyUUID:G:cuf PartyID:S60:cuf PartyTypeCode:S15:uf+
RoleCode:S10:cuf+ MainIndicator:B:cuf ETag:D

# EMailNotes cud parent=EMail back=EMail
ObjectID:S70:f! ParentObjectID:S70:cf EMailID:S35:cf^ Text:s:cuf TypeCode:S5:cf+ AuthorName:S40:cuf AuthorUUID:G:cuf
CreatedOn:D:f CreatedBy:S80:f UpdatedOn:D:f LastUpdatedBy:S80:f ETag:D LanguageCode:S2:cuf+ EntityLastChangedOn:D:f

# EMailSenderParty cud parent=EMail back=EMail
ObjectID:S70:f! ParentObjectID:S70:cf EMailID:S35:cf^ PartyID:S60:cuf PartyName:S480:f EMailValue:S255:f ETag:D

# EMailToRecipients cud parent=EMail back=EMail
ObjectID:S70:f! ParentObjectID:S70:cf EMailParentID:S35:cf^ PartyID:S60:cuf Name:S480:cf NameLanguageCode:S2:f+
EMailID:S255:cf Phone:S40:f Address:S480:f MessageToName:S255:cuf MessageToEmailID:S254:cuf PartyUUID:G:cuf ETag:D

# CodeList -
Code:s:! Description:s:!

# ContextualCodeList -
Code:s:f! Context:s:f! Description:s:f!
"""
