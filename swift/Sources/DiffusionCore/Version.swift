/// The package's version.
public let packageVersion = "0.1.0"
