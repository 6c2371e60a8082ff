"""How each family of shipped models is trained as its recipe says, loaded and measured."""
