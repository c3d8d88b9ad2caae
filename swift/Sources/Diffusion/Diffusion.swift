@_exported import DiffusionCore
