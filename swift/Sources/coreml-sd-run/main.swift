print("coreml-sd-run")
