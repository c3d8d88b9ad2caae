"""What a conversion will take: time, memory and disk, said before the work."""

from coreml_sd.conversion.prediction.predict import Prediction, predict

__all__ = ["Prediction", "predict"]
