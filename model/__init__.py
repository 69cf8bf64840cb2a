"""Networks and data: pixels in, probabilities out; knows neither the network protocol nor SQL.

Importing this package costs nothing: TensorFlow is loaded only by the modules that train and,
late, by `model.predict.Classifier.load`.
"""
