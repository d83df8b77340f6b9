"""Operations measured in turn between live workers, and their ratios.

It knows how workers are started; never pytest.
"""
