def cases(lab):
  return []
