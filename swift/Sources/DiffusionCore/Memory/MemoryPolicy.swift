/// What stays loaded between the stages of a picture.
public enum MemoryPolicy: String, Sendable, Hashable, Codable, CaseIterable {
    /// Every network stays; later pictures start at once.
    case allResident = "all-resident"
    /// One component at a time; each is freed before the next loads.
    case stageByStage = "stage-by-stage"
    /// One file at a time, also within a component that was cut into chunks: the least memory,
    /// and a load for each chunk of each step.
    case chunkByChunk = "chunk-by-chunk"
}
