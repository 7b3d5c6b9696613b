"""The measured system: what the references beside it do as well."""
