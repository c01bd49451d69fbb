"""The batch-normalised network in PaddlePaddle. Prints test accuracy and seconds."""

import sys
import time

import paddle
from paddle import nn
from paddle.io import TensorDataset
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

began = time.perf_counter()
x, y = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x, y, train_size=1024, test_size=360, random_state=0)
scaler = StandardScaler().fit(x_train)
x_train, x_test = (paddle.to_tensor(scaler.transform(part), dtype="float32") for part in (x_train, x_test))
train = TensorDataset([x_train, paddle.to_tensor(y_train[:, None])])
test = TensorDataset([x_test, paddle.to_tensor(y_test[:, None])])

paddle.seed(0)
network = nn.Sequential(
    nn.Linear(64, 128),
    nn.BatchNorm1D(128),
    nn.ReLU(),
    nn.Linear(128, 128),
    nn.BatchNorm1D(128),
    nn.ReLU(),
    nn.Linear(128, 10),
)
model = paddle.Model(network)
optimizer = paddle.optimizer.Adam(0.001, parameters=network.parameters())
model.prepare(optimizer, nn.CrossEntropyLoss(), paddle.metric.Accuracy())
model.fit(train, batch_size=64, epochs=int(sys.argv[1]), verbose=0)
accuracy = model.evaluate(test, batch_size=360, verbose=0)["acc"]
print(accuracy, time.perf_counter() - began)
