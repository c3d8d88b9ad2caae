"""The litert runtime: .tflite files read as data and executed by LiteRT on CPU and GPU."""
