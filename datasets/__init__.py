"""Graphs, attacked graphs, embedded data and generators."""

if __name__ != "contractive_gnn.datasets":
    raise ImportError(
        f"this folder is the package contractive_gnn.datasets, but it was imported as {__name__!r}; "
        "install the project (pip install -e .) and import contractive_gnn.datasets. If you wanted Hugging Face's "
        "`datasets`, run Python from another folder."
    )
