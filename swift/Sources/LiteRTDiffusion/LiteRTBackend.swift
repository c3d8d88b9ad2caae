public enum LiteRTPlaceholder {}
