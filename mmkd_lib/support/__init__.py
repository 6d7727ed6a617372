"""What every other room stands on: errors, paths, random numbers, fingerprints of code, devices, workers."""
