print("ress")
