"""Images of written text, made by rule: paragraphs, text in photographs, and documents from templates.

    written_image.py   what an image is, and the settings that it is a function of
    faces.py           type faces by name; which characters of which languages one can write
    corpora.py         paragraphs and phrases by language; rare characters
    text_lines.py      breaks, fits and renders lines, with a box for every character
    grounds.py         colours by name, contrast, plain and paper grounds
    paragraphs.py      pure: a paragraph on a clean ground
    photographs.py     what text is put into, and its measured light, blur and noise
    surfaces.py        compositional: paper, boards, signs and screens in a photograph
    documents.py       complex: slides, posters, tickets, menus and pages from typst templates
    wording.py         captions in English and Chinese
    writer.py          (settings, index) -> image

Nothing here imports torch.
"""
