"""Neural networks: modules only, no files and no devices."""
