"""Every page of docs/sensors, with its sensor or the nearest kin that runs here."""
