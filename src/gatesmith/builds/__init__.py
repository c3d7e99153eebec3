"""The build service: a queue of builds that survives, workers that build, one build for everybody who asks for it."""
