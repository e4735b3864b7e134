"""Print what came in and say hello: the lines stand between Start and End."""


def handler(event, context):
    print(str(event))
    return "Hello, World!"
