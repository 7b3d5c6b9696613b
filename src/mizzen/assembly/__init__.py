"""Assembly: rules and edges put together into clients, services and the process that runs them."""
