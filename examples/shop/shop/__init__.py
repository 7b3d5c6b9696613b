"""The shop: a system of two services, each made of one domain package."""
