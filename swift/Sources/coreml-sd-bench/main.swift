print("coreml-sd-bench")
