#if canImport(CoreML)
import CoreML
import DiffusionCore
#endif
