"""The authoring tools."""
