# The sample of a Python server in the documentation of Function Compute's custom runtime,
# as it is shown there but for the headers of its answer: `[()]`, which Flask refuses, is `[]`.
# ruff: noqa
# fmt: off
from flask import Flask
from flask import request
import sys
REQUEST_ID_HEADER = 'x-fc-request-id'
app = Flask(__name__)
@app.route("/invoke", methods = ["POST"])
def hello_world():
    rid = request.headers.get(REQUEST_ID_HEADER)
    print("FC Invoke Start RequestId: " + rid)
    data = request.stream.read()
    print(str(data))
    print("FC Invoke End RequestId: " + rid)
    return "Hello, World!", 200, []
if __name__ == '__main__':
    app.run(host='0.0.0.0',port=9000)
